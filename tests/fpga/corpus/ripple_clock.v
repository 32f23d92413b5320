// A counter clocked by a ripple counter: 2,000 Hz.
module top (input CLK, output ICE_27);
    reg [4:0] q = 0;
    always @(posedge CLK) q[0] <= ~q[0];
    genvar i;
    generate
        for (i = 1; i < 5; i = i + 1) begin : stage
            always @(posedge q[i-1]) q[i] <= ~q[i];
        end
    endgenerate
    reg [9:0] c = 0;
    always @(posedge q[4]) c <= c == 749 ? 0 : c + 1;
    assign ICE_27 = c[9];
endmodule
