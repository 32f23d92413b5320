// A ripple counter: each flip-flop is clocked by the one before.
module top (input CLK, output ICE_27);
    reg [11:0] q = 0;
    always @(posedge CLK) q[0] <= ~q[0];
    genvar i;
    generate
        for (i = 1; i < 12; i = i + 1) begin : stage
            always @(negedge q[i-1]) q[i] <= ~q[i];
        end
    endgenerate
    assign ICE_27 = q[11];
endmodule
