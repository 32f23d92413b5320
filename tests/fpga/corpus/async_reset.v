// A counter that another one resets asynchronously.
module top (input CLK, output ICE_27);
    reg [9:0] a = 0;
    reg [7:0] b;
    reg r = 0;
    always @(posedge CLK) begin
        a <= a + 1;
        r <= a == 700;
    end
    always @(posedge CLK or posedge r)
        if (r) b <= 0;
        else b <= b + 1;
    assign ICE_27 = b[7];
endmodule
