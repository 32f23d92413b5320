// Rises once, 500 clocks after configuration.
module top (input CLK, output ICE_27);
    reg [8:0] c = 0;
    reg q = 0;
    always @(posedge CLK) begin
        if (!q) c <= c + 1;
        q <= q | c == 499;
    end
    assign ICE_27 = q;
endmodule
